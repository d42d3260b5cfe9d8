"""What a streamed token costs each service, in floors: processes that only write the same bytes."""
