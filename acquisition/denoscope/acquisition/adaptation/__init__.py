"""Train while recording, and go on with the new weights where they are better."""
