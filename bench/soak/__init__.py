"""Everything at once for a long time: whatever was taken must come back."""
