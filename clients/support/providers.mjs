// Provider definitions over the sample provider, in the catalogue's format: what an operator adds with --catalog.

/** The definitions, by name. */
export function providers(sample) {
  const api = { base_url: sample };
  const oauth = {
    display_name: 'Test OAuth',
    categories: ['other'],
    auth_mode: 'OAUTH2',
    authorization_url: `${sample}/oauth/authorize`,
    token_url: `${sample}/oauth/token`,
    default_scopes: ['contacts.read'],
    scope_separator: ' ',
    // The sample provider's tokens live a minute: without this each read would refresh.
    token_expiration_buffer: 5,
    proxy: api,
    docs: 'https://www.rfc-editor.org/rfc/rfc6749.html'
  };
  return {
    'test-oauth': oauth,
    'test-oauth-tenant': {
      ...oauth,
      display_name: 'Test OAuth with a tenant',
      authorization_params: { tenant: '${connectionConfig.tenant}' },
      connection_config: {
        tenant: { type: 'string', title: 'Tenant', description: 'Name of the tenant.', example: 'acme', pattern: '^[a-z -]+$', order: 1 }
      }
    },
    'test-api-key': {
      display_name: 'Test API key',
      categories: ['other'],
      auth_mode: 'API_KEY',
      proxy: { ...api, headers: { 'x-api-key': '${apiKey}' }, verification: { method: 'GET', endpoints: ['/whoami'] } },
      docs: 'https://www.rfc-editor.org/rfc/rfc9110.html',
      credentials: { apiKey: { type: 'string', title: 'API key', description: 'The key.', secret: true } }
    },
    'test-basic': {
      display_name: 'Test Basic',
      categories: ['other'],
      auth_mode: 'BASIC',
      proxy: { ...api, verification: { method: 'GET', endpoints: ['/whoami'] } },
      docs: 'https://www.rfc-editor.org/rfc/rfc7617.html'
    },
    'test-client-credentials': {
      display_name: 'Test client credentials',
      categories: ['other'],
      auth_mode: 'OAUTH2_CC',
      token_url: `${sample}/oauth/token`,
      token_params: { grant_type: 'client_credentials' },
      token_expiration_buffer: 5,
      proxy: api,
      docs: 'https://www.rfc-editor.org/rfc/rfc6749.html'
    },
    'test-none': {
      display_name: 'Test without authentication',
      categories: ['other'],
      auth_mode: 'NONE',
      proxy: api,
      docs: 'https://www.rfc-editor.org/rfc/rfc9110.html'
    }
  };
}
