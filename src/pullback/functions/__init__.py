"""What users call: thin names over ops, and composites of them."""

from pullback.functions import methods

methods.bind()
