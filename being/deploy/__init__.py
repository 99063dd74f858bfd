"""Ray: a farm of subjects, and the placement of live sessions on several machines."""
