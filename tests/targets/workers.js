// Hot loops for the compiler of the engine, garbage for its collector, four worker threads.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');

function hot(n) {
  let sum = 0;
  for (let i = 0; i < n; i++) {
    sum = (sum * 31 + i) | 0;
    if (i % 7 === 0) sum ^= i;
  }
  return sum;
}

if (isMainThread) {
  const results = [];
  let left = 4;
  for (let i = 0; i < 4; i++) {
    const worker = new Worker(__filename, { workerData: i });
    worker.on('message', (message) => { results[i] = message; });
    worker.on('exit', (code) => {
      results[i] += ` exit ${code}`;
      if (--left === 0) finish();
    });
  }
  console.log('main', hot(3e7));

  function finish() {
    console.log(results.join('\n'));
    console.log(crypto.createHash('sha256').update(JSON.stringify(results)).digest('hex'));
    console.log(zlib.gunzipSync(zlib.gzipSync(Buffer.alloc(100000, 'ab'))).length);
    try { null.x; } catch (error) { console.log(error.message); }
    const objects = [];
    for (let i = 0; i < 200000; i++) objects.push({ i, s: 'x' + i });
    console.log(objects.map((o) => o.s.length).reduce((a, b) => a + b));
    console.log([3, 1, 2].sort().map((n) => n.toLocaleString('en')).join(), /(a+)+b/.test('aaab'));
  }
} else {
  const map = new Map();
  for (let i = 0; i < 100000; i++) map.set('k' + (i % 5000), (map.get('k' + (i % 5000)) || 0) + i);
  parentPort.postMessage(`${workerData}:${hot(1e7 + workerData)}:${[...map.values()].reduce((a, b) => a + b)}`);
}
