"""Raw Prometheus samples and DescribeInstances rows -> Snapshot."""
