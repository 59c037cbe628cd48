"""Who is known and what happened: contacts, history."""
