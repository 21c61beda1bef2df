"""Files and folders that other software is writing, followed while they grow."""
