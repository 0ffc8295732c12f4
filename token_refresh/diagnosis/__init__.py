"""What a person should look at: the checks of `doctor`, the states of rows, and what a run says before it begins."""
