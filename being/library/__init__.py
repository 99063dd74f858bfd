"""What lies under the home: all datasets, runs and avatars, and the removal of a person's."""
