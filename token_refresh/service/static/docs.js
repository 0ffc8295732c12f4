// Swagger UI of this host's endpoints. It asks nobody else: `validatorUrl` would.
SwaggerUIBundle({ dom_id: "#endpoints", url: "/openapi.json", validatorUrl: null, deepLinking: true });
