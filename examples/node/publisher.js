// A publisher with the stock NATS client for Node.js: it publishes jobs into JetStream, awaits their stored results and
// prints them. It knows nothing of the runner but its contract, docs/messages.md.
//
//   node publisher.js --server nats://127.0.0.1:4222 --database demo

import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import { jetstream } from "@nats-io/jetstream";
import { connect, NoRespondersError, RequestError, TimeoutError } from "@nats-io/transport-node";

const pollInterval = 3000; // milliseconds between two polls, which find what was stored while there was no subscription

class Publisher {
  constructor(nc, namespace, database) {
    Object.assign(this, { nc, js: jetstream(nc), namespace, database });
  }

  // publish returns when the stream has the job. It is a JetStream publish: nc.publish would not notice that no stream
  // takes the subject. The id is in the header too, so that the stream drops the repetition of a publish whose
  // acknowledgement was lost; later than that the runner knows the id.
  async publish(kind, job) {
    const subject = `${this.namespace}.jobs.${this.database}.${kind}`;
    try {
      return await this.js.publish(subject, JSON.stringify(job), { msgID: job.id, retries: 5 });
    } catch (err) {
      if (isNoResponders(err) || isNoResponders(err.cause)) { // the client calls it "jetstream is not enabled"
        throw new Error(`no stream takes ${subject}: is there such a database, and does it take this kind?`);
      }
      throw err;
    }
  }

  // result returns the stored result of a job: subscribe first, then get, then get again every few seconds. Nothing
  // depends on having been there when it was stored, so this works after a restart, too.
  async result(id, timeout = 60_000) {
    const subject = `${this.namespace}.results.${this.database}.${id}`;
    const heard = {};
    heard.promise = new Promise((resolve) => (heard.resolve = resolve));
    const subscription = this.nc.subscribe(subject, {
      max: 1,
      callback: (err, message) => heard.resolve(err ? undefined : message.json()),
    });
    try {
      for (const until = Date.now() + timeout; Date.now() < until; ) {
        const result = (await this.stored(subject)) ?? (await within(pollInterval, heard.promise));
        if (result) {
          return result;
        }
      }
    } finally {
      subscription.unsubscribe();
    }
    throw new Error(`job ${id} has no result yet; it will have one: ask again with its id`);
  }

  // stored gets the last message of the subject by direct get, undefined if there is none or no server answers now.
  async stored(subject) {
    const stream = `${this.namespace.toUpperCase()}_RESULTS_${this.database}`;
    let message;
    try {
      message = await this.nc.request(`$JS.API.DIRECT.GET.${stream}.${subject}`, "", { timeout: pollInterval });
    } catch (err) {
      if (isNoResponders(err) || err instanceof TimeoutError) {
        return undefined;
      }
      throw err;
    }
    const code = message.headers?.code ?? 0;
    if (code !== 0 && code !== 404) {
      throw new Error(`get ${subject}: ${code} ${message.headers.description}`);
    }
    return code === 404 ? undefined : message.json();
  }
}

function isNoResponders(err) {
  return err instanceof NoRespondersError || (err instanceof RequestError && err.isNoResponders());
}

// within resolves to what the promise does, or to undefined when the time is over.
async function within(milliseconds, promise) {
  let timer;
  const over = new Promise((resolve) => (timer = setTimeout(resolve, milliseconds)));
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}

function print(result) {
  console.log(`  ${result.status}  ${result.job_id}`);
  for (const row of result.rows ?? []) {
    console.log(`    ${JSON.stringify(row)}`);
  }
  if (result.error) {
    console.log(`    ${result.error.code}: ${result.error.message}`);
  }
  for (const fault of result.error?.faults ?? []) {
    console.log(`      ${fault.path}: ${fault.message}`);
  }
}

async function show(publisher, run) {
  console.log("A query");
  const query = { id: `${run}-query`, sql: "SELECT id, owner, balance FROM accounts WHERE id = :id", params: { id: 1 } };
  await publisher.publish("query", query);
  print(await publisher.result(query.id));

  console.log("A transaction, published twice: one effect, one result");
  const transfer = {
    id: `${run}-transfer`,
    statements: [
      { sql: "UPDATE accounts SET balance = balance - 1 WHERE id = :id", params: { id: 1 }, expect_rows: 1 },
      { sql: "UPDATE accounts SET balance = balance + 1 WHERE id = :id", params: { id: 2 }, expect_rows: 1 },
    ],
  };
  for (const time of ["first", "second"]) {
    const ack = await publisher.publish("transaction", transfer);
    console.log(`  ${time} acknowledgement: ${ack.duplicate ? "duplicate, the stream has this id already" : "stored"}`);
  }
  print(await publisher.result(transfer.id));

  console.log("A job with mistakes: rejected, nothing of it is executed");
  const mistaken = { id: `${run}-mistaken`, sqll: "SELECT 1" };
  await publisher.publish("query", mistaken);
  print(await publisher.result(mistaken.id));

  console.log("A kind that is not there: fails at the publisher");
  await publisher.publish("nosuch", { id: `${run}-nosuch` }).then(
    () => Promise.reject(new Error("a stream took it")),
    (err) => console.log(`  ${err.message}`),
  );
}

// The exit codes are those of runner submit: 1 it could not be done, 78 the command line is wrong.
const options = {
  options: {
    server: { type: "string", default: process.env.NATS_URL ?? "nats://127.0.0.1:4222" },
    namespace: { type: "string", default: "dbrunner" },
    database: { type: "string", default: "demo" },
    run: { type: "string", default: `node-${randomUUID()}` },
  },
};
let values;
try {
  ({ values } = parseArgs(options));
} catch (err) {
  console.error(`publisher: ${err.message}`);
  process.exit(78);
}
let nc;
try {
  nc = await connect({ servers: values.server, name: "dbrunner example in Node.js", maxReconnectAttempts: -1 });
  await show(new Publisher(nc, values.namespace, values.database), values.run);
} catch (err) {
  console.error(`publisher: ${err.message}`);
  process.exitCode = 1;
} finally {
  await nc?.drain();
}
