"""What breaks, by who breaks it. Each module has `KINDS`: by name, how a fault begins and how it is mended."""
