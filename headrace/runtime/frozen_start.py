"""What a process has loaded by its start is no business of the garbage collector's.

Modules, classes, settings' schemas: tens of thousands of objects that live as long as the process.
A full collection that looks at them all holds a service's event loop up for tens of milliseconds.
"""

import gc


def freeze_start() -> None:
    """Take what exists out of all later collections; to be called once, when all is imported.

    Garbage is collected before. What is made later, cycles too, is collected as ever; of what is
    frozen, an object that is no longer referred to still goes, but a cycle stays.
    """
    gc.collect()
    gc.freeze()
