// The dashboard's body. CloudFormation takes it as JSON text, with ${...} for what is known at deployment only.
// Most of it is asked of the log, where it costs no metric: $0.005 for each GB that a query scans (docs/cost.md).
"use strict";

const WIDTH = 24;
const HEIGHT = 6;
const region = "${AWS::Region}";
const FUNCTIONS = ["Alerts", "Sweep", "Lifecycle"];

const everyFunction = (metric, stat) =>
  FUNCTIONS.map((name) => ["AWS/Lambda", metric, "FunctionName", `\${${name}LambdaFunction}`, { label: name.toLowerCase(), stat }]);

// Widgets from left to right, a row each; a row's widgets share its width.
const laidOut = (rows) =>
  rows.flatMap(({ height = HEIGHT, widgets }, row) => {
    const y = rows.slice(0, row).reduce((sum, above) => sum + (above.height ?? HEIGHT), 0);
    const width = WIDTH / widgets.length;
    return widgets.map((widget, column) => ({ x: column * width, y, width, height, ...widget }));
  });

// A period holds a look at least, so that lines have no holes; a longer gap is drawn as one, not as zero.
const charts = (period) => (title, rows, more = {}) => ({
  type: "metric",
  properties: { title, region, view: "timeSeries", stat: "Maximum", period, metrics: rows, yAxis: { left: { min: 0 } }, ...more },
});

const logged = (groups) => (title, view, query) => ({
  type: "log",
  properties: { title, region, view, query: `${groups.map((group) => `SOURCE '${group}'`).join(" | ")} | ${query.trim()}` },
});

const alarmStates = (names) => ({
  type: "alarm",
  properties: {
    title: "Alarms",
    alarms: names.map((name) => `arn:\${AWS::Partition}:cloudwatch:${region}:\${AWS::AccountId}:alarm:${name}`),
  },
});

// An alarm's own digit of the metric, as a line: cloudformation/alarms.yml has the expressions.
const conditions = (alarms, ours) => [
  ...alarms
    .flatMap(({ Metrics = [] }) => Metrics)
    .filter(({ Id }) => Id === "digit")
    .map(({ Expression, Label }, place) => [{ expression: Expression, label: Label, id: `c${place}` }]),
  [...ours, { id: "highest", visible: false }],
];

function body({ service, clusterId, prefix, period, lastDecisions, underWay, alarms, told }) {
  const metrics = charts(period);
  const ours = [service, "Conditions", "cluster_id", clusterId, "service", service];
  const ask = logged(FUNCTIONS.map((name) => `/aws/lambda/${prefix}-${name.toLowerCase()}`));
  const rows = [
    {
      widgets: [
        ask(
          "Workers",
          "timeSeries",
          `filter ispresent(decision_id) and ispresent(nodes.ready)
          | stats max(nodes.ready) as Ready, max(nodes.joining) as joining, max(nodes.draining) as leaving, max(nodes.desired) as desired,
            min(nodes.min) as smallest, max(nodes.max) as largest by bin(5m)`,
        ),
        ask(
          "Pods that wait for a worker",
          "timeSeries",
          `filter ispresent(decision_id)
          | stats max(signals.0.value) as waiting by bin(5m)`,
        ),
      ],
    },
    {
      widgets: [
        ask(
          "Decisions by action",
          "bar",
          `fields strcontains(action, "scale_up") as up, strcontains(action, "scale_down") as down, strcontains(action, "repair") as mend, strcontains(action, "held_back") as no
          | filter ispresent(decision_id)
          | stats sum(up) as scale_up, sum(down) as scale_down, sum(mend) as repair, sum(no) as held_back by bin(1h)`,
        ),
        ask(
          "Joined, terminated, failed",
          "bar",
          `filter reason = "step"
          | parse message /^worker (?<joined>\\S+) is Ready, /
          | parse message /^instance (?<ended>\\S+) is terminated$/
          | stats count(joined) as workers_joined, count(ended) as workers_terminated, sum(strcontains(step, "failed")) as failures by bin(1h)`,
        ),
        ask(
          "Duration of an evaluation (ms)",
          "timeSeries",
          `filter ispresent(decision_id)
          | stats avg(duration_ms) as average, pct(duration_ms, 95) as p95, max(duration_ms) as longest by bin(15m)`,
        ),
      ],
    },
    {
      widgets: [
        metrics("What needs a person (1 is yes)", conditions(alarms, ours)),
        ask(
          "US dollars an hour",
          "timeSeries",
          `filter ispresent(cost.usd_per_hour)
          | stats avg(cost.usd_per_hour) as workers by bin(15m)`,
        ),
        metrics(
          "Webhook",
          [
            ["AWS/ApiGateway", "Count", "ApiId", "${HttpApi}", { label: "requests" }],
            ["AWS/ApiGateway", "4xx", "ApiId", "${HttpApi}", { label: "4xx: refused" }],
            ["AWS/ApiGateway", "5xx", "ApiId", "${HttpApi}", { label: "5xx: sent again" }],
          ],
          { stat: "Sum" },
        ),
      ],
    },
    {
      widgets: [
        metrics("Functions: errors and throttles", [...everyFunction("Errors", "Sum"), ...everyFunction("Throttles", "Sum")]),
        metrics("Functions: duration, p95 (ms)", everyFunction("Duration", "p95")),
        metrics(
          "DynamoDB",
          [
            ["AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", "${StateTable}", { label: "state: read units" }],
            ["AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", "${StateTable}", { label: "state: write units" }],
            ["AWS/DynamoDB", "ConditionalCheckFailedRequests", "TableName", "${StateTable}", { label: "state: lost races" }],
          ],
          { stat: "Sum" },
        ),
        metrics("Dead letters", [
          ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "${LifecycleFailures.QueueName}", { label: "events set aside" }],
        ]),
      ],
    },
    { height: 10, widgets: [ask("Last decisions", "table", lastDecisions)] },
    { widgets: [ask("What is under way", "table", underWay)] },
  ];
  const states = told ? [{ height: 3, widgets: [alarmStates(alarms.map(({ AlarmName }) => AlarmName))] }] : [];
  return JSON.stringify({ widgets: laidOut([...states, ...rows]) });
}

const queryOf = (resolveVariable, name) => resolveVariable(`file(cloudformation/queries.yml):Resources.${name}.Properties.QueryString`);

async function alarmsOf(resolveVariable) {
  const resources = await resolveVariable("file(cloudformation/alarms.yml):Resources");
  const prefix = await resolveVariable("self:custom.prefix");
  return Object.values(resources)
    .filter(({ Type }) => Type === "AWS::CloudWatch::Alarm")
    .map(({ Properties }) => ({ ...Properties, AlarmName: Properties.AlarmName.replace("${self:custom.prefix}", prefix) }));
}

module.exports = async ({ resolveVariable }) => {
  return {
    body: body({
      service: await resolveVariable("self:service"),
      clusterId: await resolveVariable("param:clusterId"),
      prefix: await resolveVariable("self:custom.prefix"),
      period: await resolveVariable("self:custom.alarmPeriods.look"),
      lastDecisions: await queryOf(resolveVariable, "LastDecisionsQuery"),
      underWay: await queryOf(resolveVariable, "OpenOperationsQuery"),
      alarms: await alarmsOf(resolveVariable),
      told: String(await resolveVariable("param:alarms")) === "true",
    }),
  };
};
