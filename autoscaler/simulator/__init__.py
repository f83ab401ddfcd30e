"""A K3s cluster without machines: in virtual time behind the core's ports, in real time behind the emulator."""
