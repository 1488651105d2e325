"""Jobs: the worker, and what each kind of job does and plans."""
