// The certified OpenID provider on a free loopback port: clients with refresh tokens that need no browser, and one that
// a person logs in to, with the provider's own pages (any password is right) or by device.
//
//     node server.mjs [refresh tokens per client, 1]
//
// Prints one JSON line: {url, token_endpoint, userinfo_endpoint, account, clients: [{client_id, client_secret,
// token_endpoint_auth_method, refresh_tokens: [...]}], login_client: {client_id, client_secret, redirect_uris}}. Serves
// until stdin closes.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

import { MemoryAdapter } from './adapter.mjs';

const ACCOUNT = 'account-1';
const SCOPE = 'openid offline_access';
const DAY = 86_400;
const random = () => randomBytes(16).toString('hex');

// Debian's Node 20 and the releases without long-term support run this provider, which tells so at every import; and
// that its pages are for development, which is what they are used for.
const EXPECTED = ['Unsupported runtime.', 'development-only feature devInteractions', 'default features.', 'default renderError'];
for (const level of ['info', 'warn']) {
  const write = console[level];
  console[level] = (...words) => {
    if (!EXPECTED.some((one) => String(words[0]).includes(one))) write(...words);
  };
}

const clients = [
  // RFC 6749, section 2.3.1: each part of HTTP Basic is form-encoded first; these characters tell who does so.
  { client_id: 'basic:client', client_secret: `${random()}:+/%25&=`, token_endpoint_auth_method: 'client_secret_basic' },
  { client_id: 'post-client', client_secret: random(), token_endpoint_auth_method: 'client_secret_post' },
];

// An installed program (RFC 8252): any loopback port is taken.
const loginClient = {
  client_id: 'login-client',
  client_secret: random(),
  redirect_uris: ['http://127.0.0.1/callback', 'https://client.example/callback', 'http://127.0.0.1/auth/callback'],
};

function configuration() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    adapter: MemoryAdapter,
    clients: [
      ...clients.map((client) => ({
        ...client,
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: ['https://client.example/callback'],
        id_token_signed_response_alg: 'ES256',
      })),
      {
        ...loginClient,
        application_type: 'native',
        token_endpoint_auth_method: 'client_secret_post',
        grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
        id_token_signed_response_alg: 'ES256',
      },
    ],
    cookies: { keys: [random()] },
    features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true }, revocation: { enabled: true } },
    findAccount: (ctx, id) => (id === ACCOUNT ? { accountId: id, claims: () => ({ sub: id }) } : undefined),
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256' }] },
    pkce: { required: () => true },
    rotateRefreshToken: true,
    ttl: { AccessToken: 3600, Grant: 90 * DAY, IdToken: 3600, RefreshToken: 90 * DAY },
  };
}

// What a login would leave behind: a grant, and a refresh token of it.
async function mintRefreshToken(provider, clientId) {
  const client = await provider.Client.find(clientId);
  const grant = new provider.Grant({ accountId: ACCOUNT, clientId });
  grant.addOIDCScope(SCOPE);
  const token = new provider.RefreshToken({
    accountId: ACCOUNT,
    authTime: Math.floor(Date.now() / 1000),
    client,
    grantId: await grant.save(),
    gty: 'authorization_code',
    scope: SCOPE,
  });
  return token.save();
}

const perClient = Number(process.argv[2] ?? 1);
const { Provider } = await import('oidc-provider');
const listener = createServer();
listener.listen(0, '127.0.0.1');
await once(listener, 'listening');
const url = `http://127.0.0.1:${listener.address().port}`;
const provider = new Provider(url, configuration());
provider.on('server_error', (ctx, error) => console.error(error));
listener.on('request', provider.callback());

for (const client of clients) {
  client.refresh_tokens = [];
  for (let count = 0; count < perClient; count += 1) {
    client.refresh_tokens.push(await mintRefreshToken(provider, client.client_id));
  }
}
const endpoints = { token_endpoint: `${url}/token`, userinfo_endpoint: `${url}/me` };
console.log(JSON.stringify({ url, ...endpoints, account: ACCOUNT, clients, login_client: loginClient }));

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
process.stdin.on('close', () => process.exit(0));
