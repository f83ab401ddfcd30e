"""`make reference`: write the policy's schema and its page of reference anew."""

import sys

from autoscaler.deploy.reference.files import written
from autoscaler.deploy.rules import ROOT, write

files = written()
write(files, ROOT)
sys.stderr.write(f"Wrote {' and '.join(files)}.\n")
