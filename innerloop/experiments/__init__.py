"""Many trainings: questions about runs, their answers, the exhibits made of them, and the plan that gets there."""
