"""Pure vocabulary shared by every layer: ids, time, errors, actions, events. No I/O happens here."""
