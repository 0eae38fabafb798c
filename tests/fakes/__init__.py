"""Engines that the machines of CI do not have, as strict as the published ones about how they are called."""
