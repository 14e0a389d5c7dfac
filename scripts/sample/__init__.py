# SPDX-License-Identifier: Apache-2.0
"""What makes the bundled sample picture: people, clothes, hair, paint and the stage around them."""
