// What systemd does with a service of type notify.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { until } from './cluster.mjs';

// systemd's end of NOTIFY_SOCKET, which Node cannot open: Python can, and prints each datagram.
export class Manager {
  constructor(folder) {
    this.folder = folder;
    this.path = join(folder, 'notify');
    this.told = [];
    this.child = spawn('python3', ['-uc', `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("BOUND", flush=True)
while True:
    print(s.recv(65536).decode().replace("\\n", " "), flush=True)
`, this.path], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.child.stdout.on('data', (data) => this.told.push(...String(data).split('\n').filter(Boolean)));
  }

  ready() { return until('the manager', () => this.told.includes('BOUND')); }

  close() { this.child.kill(); }

  count(what) { return this.told.filter((line) => line === what).length; }
}
