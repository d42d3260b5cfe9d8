"""What every engine owes the seam, held against each engine that there is."""
