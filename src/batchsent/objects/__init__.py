"""Object stores (``s3://``, ``gs://``) through fsspec: where their libraries are known, and nowhere else."""
