"""What reviewers decided: triage, the blind audit, and previews of custom reader rules."""
