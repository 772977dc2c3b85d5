"""Models: where they come from (``resolution``) and what they compute (``sequence_classification``)."""
