"""Pure numerical methods; no equation and no physics is named here."""
