"""What observes: patches, hooks and probes. Each source is ignorant of its siblings."""
