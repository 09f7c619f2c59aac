"""The VicunaModel API: constants, types, conditions. Pure."""
