"""The baseline service: one read by primary key through Django REST framework, and nothing else."""
