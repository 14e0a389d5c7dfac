# SPDX-License-Identifier: Apache-2.0
"""People who do not exist: the open body in painted clothes, as surfaces, pictures and Gaussians.

They show that an evaluation or a training runs, and compare methods on the same footing. They are
no people: there is no loose cloth, and their surface is the body model's.
"""
