"""The VicunaModel API: types, conditions. Pure."""
