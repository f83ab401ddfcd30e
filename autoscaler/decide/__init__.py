"""Pure judgement: Snapshot x State x Policy x now -> Decision. No I/O, no clock, no chance."""
