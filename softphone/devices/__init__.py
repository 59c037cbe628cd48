"""Where a person speaks and hears: sound cards, browsers, files, or nothing at all."""
