"""A call from INVITE to BYE, in and out, with what can be done in it: hold, transfer, conference, sound."""
