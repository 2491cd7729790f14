"""Speed and quality against segment_anything's ``SamPredictor``; run by ``python -m benchmark``."""
