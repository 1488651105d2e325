"""The state of a review session, apart from its screen: queue, open question, decisions, texts."""
