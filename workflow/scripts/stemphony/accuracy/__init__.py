"""How wrong a result is: error budgets of configs."""
