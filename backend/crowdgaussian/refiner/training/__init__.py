# SPDX-License-Identifier: Apache-2.0
"""Training a refiner by Self-Calibrated Learning (paper, section 3.3)."""
