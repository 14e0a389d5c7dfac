# SPDX-License-Identifier: Apache-2.0
"""Training LORM: self-supervised distillation on people who are hidden on purpose."""
