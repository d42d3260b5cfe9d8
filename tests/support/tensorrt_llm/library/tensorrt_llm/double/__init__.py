"""What stands in for the compiled half and the GPU: switches, a machine, a fake model, a worker.

The real library has no such package; an adapter never imports it.
"""
