# SPDX-License-Identifier: Apache-2.0
"""People, scenes and photos that are made up: to train on, to measure with, to show.

They show that an evaluation or a training runs, and compare methods on the same footing. They are
no people: there is no loose cloth, and their surface is the body model's.
"""
