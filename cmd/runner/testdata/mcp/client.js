// Calls runner mcp with the npm SDK as an agent would, and prints what it saw as JSON. The argument is the command line of the
// server with its environment.
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'

const server = JSON.parse(process.argv[2])

async function connect() {
  const client = new Client({ name: 'third-party', version: '1.0.0' })
  await client.connect(new StdioClientTransport({ ...server, stderr: 'inherit' }))
  return client
}

async function call(client, name, args, options) {
  try {
    const result = await client.callTool({ name, arguments: args }, undefined, options)
    return { failed: result.isError === true, answer: JSON.parse(result.content[0].text) }
  } catch (error) {
    return { error: String(error.message) }
  }
}

const seen = { progress: 0 }
const one = await connect()
seen.server = one.getServerVersion()
seen.tools = (await one.listTools()).tools
seen.paid = await call(one, 'pay', { from: 7, to: 9, amount: 10, request_id: 'order 1' })
seen.again = await call(one, 'pay', { from: 7, to: 9, amount: 10, request_id: 'order 1' })
seen.misspelled = await call(one, 'pay', { from: 7, to: 9, amont: 10 })
seen.refused = await call(one, 'refund', { id: 7 })
seen.unknown = await call(one, 'query', { sql: 'SELECT 1' })
seen.many = await call(one, 'many', {})
const controller = new AbortController()
seen.canceled = await call(one, 'endless', { request_id: 'endless' }, {
  signal: controller.signal,
  onprogress: () => {
    seen.progress++
    controller.abort('enough')
  },
})
seen.before = await call(one, 'purse', { id: 7 })
await one.close()

// Two clients: the ids of their requests are the same numbers.
const clients = [await connect(), await connect()]
seen.two = await Promise.all(clients.map((client) => call(client, 'pay', { from: 7, to: 9, amount: 10 })))
seen.after = await call(clients[0], 'purse', { id: 7 })
await Promise.all(clients.map((client) => client.close()))
console.log(JSON.stringify(seen))
