// The regions in which everything that the functions call has an endpoint with an IPv6 address: EC2 and SNS are what is
// missing elsewhere (ca-west-1 has no such EC2 endpoint). Source: the SDK's own table, botocore's data/endpoints.json,
// which tests/service/test_cluster_settings.py holds this list equal to.
"use strict";

const DUAL_STACK_REGIONS = [
  "af-south-1",
  "ap-east-1",
  "ap-northeast-1",
  "ap-northeast-2",
  "ap-south-1",
  "ap-southeast-1",
  "ap-southeast-2",
  "ca-central-1",
  "eu-central-1",
  "eu-north-1",
  "eu-south-1",
  "eu-west-1",
  "eu-west-2",
  "eu-west-3",
  "me-south-1",
  "sa-east-1",
  "us-east-1",
  "us-east-2",
  "us-west-1",
  "us-west-2",
];

module.exports = { DUAL_STACK_REGIONS };
