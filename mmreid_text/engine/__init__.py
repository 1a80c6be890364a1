"""Training: hooks, optimiser wrappers, process groups, configs."""
