// node provider.mjs <port> <users.json path>     npm i oidc-provider@9
// Prints "READY <issuer>" on stdout.  POST /__test/rotate  -> new signing key (old stays published unless ?drop=1)
import http from 'node:http';
import fs from 'node:fs';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import Provider from 'oidc-provider';

const port = Number(process.argv[2] ?? 9400);
const cfgPath = process.argv[3];
const issuer = process.env.ISSUER ?? `http://127.0.0.1:${port}`;
const cfg = cfgPath ? JSON.parse(fs.readFileSync(cfgPath, 'utf8')) : {
  users: { alice: { email: 'alice@example.com', name: 'Alice', groups: ['admins', 'dev'] },
           bob: { email: 'bob@example.com', name: 'Bob', groups: ['dev'] } },
  clients: [{ client_id: 'app', client_secret: 'app-secret-app-secret-app-secret', redirect_uris: ['http://127.0.0.1:8000/auth/callback'] }],
};
const newKey = () => ({ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' });

// The provider is rebuilt on rotation; the adapter store is ours, so sessions/codes survive.
const store = new Map(); const byUid = new Map(); const grants = new Map();
class MemAdapter {
  constructor(name) { this.name = name; }
  key(id) { return `${this.name}:${id}`; }
  async upsert(id, payload) { store.set(this.key(id), payload); if (payload.uid) byUid.set(payload.uid, id);
    if (payload.grantId) { if (!grants.has(payload.grantId)) grants.set(payload.grantId, []); grants.get(payload.grantId).push(this.key(id)); } }
  async find(id) { return store.get(this.key(id)); }
  async findByUid(uid) { return this.find(byUid.get(uid)); }
  async findByUserCode() { return undefined; }
  async consume(id) { store.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { store.delete(this.key(id)); }
  async revokeByGrantId(g) { for (const k of grants.get(g) ?? []) store.delete(k); grants.delete(g); }
}
let keys = [newKey()];
const ttl = cfg.ttl ?? {};
function build() {
  const p = new Provider(issuer, {
    adapter: MemAdapter,
    jwks: { keys },
    clients: cfg.clients.map((c) => ({ grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], ...c })),
    cookies: { keys: ['test-cookie-key'] },
    pkce: { required: () => true },
    conformIdTokenClaims: cfg.conform ?? false,  // false: profile, email and groups are in the id_token as well
    scopes: ['openid', 'offline_access', 'profile', 'email', 'groups'],
    claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email', 'email_verified'], groups: ['groups'] },
    features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
    ttl: { AccessToken: 3600, AuthorizationCode: 60, IdToken: 3600, Interaction: 3600, Session: 86400, Grant: 86400, RefreshToken: 86400, ...ttl },
    findAccount: (_ctx, id) => (cfg.users[id] ? { accountId: id,
      claims: () => ({ sub: id, preferred_username: id, email_verified: true, ...cfg.users[id] }) } : undefined),
    // auto-consent: no consent page, only the login form
    async loadExistingGrant(ctx) {
      const grantId = ctx.oidc.result?.consent?.grantId ?? ctx.oidc.session.grantIdFor(ctx.oidc.client.clientId);
      if (grantId) return ctx.oidc.provider.Grant.find(grantId);
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope('openid offline_access profile email groups');
      grant.addOIDCClaims(['groups', 'email', 'name']);
      await grant.save();
      return grant;
    },
  });
  p.on('server_error', (_c, e) => console.error(e));
  return p.callback();
}
let cb = build();
http.createServer((req, res) => {
  const u = new URL(req.url, issuer);
  if (req.method === 'POST' && u.pathname === '/__test/rotate') {
    keys = u.searchParams.has('drop') ? [newKey()] : [newKey(), ...keys];
    cb = build();
    res.setHeader('content-type', 'application/json'); return res.end(JSON.stringify({ kids: keys.map((k) => k.kid) }));
  }
  if (req.method === 'PUT' && u.pathname.startsWith('/__test/users/')) {
    let b = ''; req.on('data', (d) => { b += d; }); req.on('end', () => { cfg.users[decodeURIComponent(u.pathname.slice(14))] = JSON.parse(b); res.statusCode = 204; res.end(); }); return undefined;
  }
  return cb(req, res);
}).listen(port, '127.0.0.1', () => console.log(`READY ${issuer}`));
