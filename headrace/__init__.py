"""What the three services share: contracts' stubs, rpc, runtime, models, client, command line."""
