"""What small models learn: recipes trained on real data and scored beside baselines, each campaign with a page in docs/."""
