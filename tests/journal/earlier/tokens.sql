BEGIN TRANSACTION;
CREATE TABLE credentials (
	id INTEGER NOT NULL, 
	location_id TEXT NOT NULL, 
	provider TEXT DEFAULT '' NOT NULL, 
	client_id TEXT DEFAULT '' NOT NULL, 
	encrypted_secret TEXT DEFAULT '' NOT NULL, 
	encrypted_refresh TEXT DEFAULT '' NOT NULL, 
	last_access_token TEXT DEFAULT '' NOT NULL, 
	access_token_expiry VARCHAR, 
	provider_params TEXT DEFAULT '' NOT NULL, 
	status TEXT DEFAULT 'active' NOT NULL, 
	last_error TEXT DEFAULT '' NOT NULL, 
	last_refreshed VARCHAR, 
	refreshed_by TEXT DEFAULT '' NOT NULL, 
	failure_count INTEGER DEFAULT '0' NOT NULL, 
	refresh_token_expiry VARCHAR, 
	redirect_uri TEXT, 
	workspace_email TEXT, 
	workspace_name TEXT, 
	scopes TEXT, 
	token_type TEXT, 
	id_token TEXT, 
	is_active BOOLEAN DEFAULT 1 NOT NULL, 
	created_at VARCHAR, 
	updated_at VARCHAR, 
	last_used_at VARCHAR, 
	claim_owner TEXT, 
	claim_generation INTEGER DEFAULT '0' NOT NULL, 
	claimed_at VARCHAR, 
	PRIMARY KEY (id), 
	UNIQUE (location_id, provider)
);
INSERT INTO "credentials" VALUES(1,'sent','zoom','earlier-client','sealed:v1:d354e90d663ab222:GCrPnB1q_yDuHYUsqmHQZd52p7ZURzwKx9OhFIk-e3d9GqUyWyPEHaUr','sealed:v1:d354e90d663ab222:vkQnEu3HpF157uuHHykYzTEYJaryVlGLByC0WhqkBRIa4UwRpeoB_EhFc5ywtA','','2026-03-01T12:00:00.000Z','','active','','2026-03-01T11:00:00.000Z','oldhost-0a1b2c3d',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'2026-03-01T11:00:00.000Z','2026-03-01T11:00:00.000Z',NULL,NULL,0,NULL);
INSERT INTO "credentials" VALUES(2,'answered','zoom','earlier-client','sealed:v1:d354e90d663ab222:xzAz9Komd2Zmt5nIlSZrwj8mffJvvF1sew-xjkPOgwdUptc4B0wUb4zn','sealed:v1:d354e90d663ab222:GCfqwSzcsHLtw4dT__ifrn8IAInjxOaF1XYq_OLJKIdcPeJ-bBAZXgctc_MlHoUJpm0','','2026-03-01T12:00:00.000Z','','active','','2026-03-01T11:00:00.000Z','oldhost-0a1b2c3d',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'2026-03-01T11:00:00.000Z','2026-03-01T11:00:00.000Z',NULL,NULL,0,NULL);
INSERT INTO "credentials" VALUES(3,'lost','zoom','earlier-client','sealed:v1:d354e90d663ab222:0l_SZNvSrk4QcpduXyq5rky0Xh0cdH9O27PSW8a-Xb_fDNWLMYWHDAIk','sealed:v1:d354e90d663ab222:6IlqN2YQSfg0N34mwq49CL6h-neAG9SrFyT77WssWUM9HsQfcKjWS5iOPQbRUw','','2026-03-01T12:00:00.000Z','','active','','2026-03-01T11:00:00.000Z','oldhost-0a1b2c3d',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'2026-03-01T11:00:00.000Z','2026-03-01T11:00:00.000Z',NULL,NULL,0,NULL);
INSERT INTO "credentials" VALUES(4,'superseded','zoom','earlier-client','sealed:v1:d354e90d663ab222:R5xy27MqL95yFmr6hmGwGmiHoqCDlZ7734shiFdV-SSq61KA7A_eD_EN','sealed:v1:d354e90d663ab222:wtpAMXNOXUUb3_t4T6nDQvZK5hL-0b4mQh73UhQqAiyBcNMTH1yVMUlze8OfFcNZsoS5_w','','2026-03-01T12:00:00.000Z','','active','','2026-03-01T11:00:00.000Z','oldhost-0a1b2c3d',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'2026-03-01T11:00:00.000Z','2026-03-01T11:00:00.000Z',NULL,NULL,0,NULL);
INSERT INTO "credentials" VALUES(5,'spent','zoom','earlier-client','sealed:v1:d354e90d663ab222:G-3oxQYjCO1yb4pDw_cElACDLKPZRXukj62_whzn2VWXcHNTb0sjjs06','sealed:v1:d354e90d663ab222:dFrtj3kNS1oOceDCydkJIZ2zGhdMAi5kPdRBj3hRZvqAo_vKb56aNX39TzaDOJE','','2026-03-01T12:00:00.000Z','','active','','2026-03-01T11:00:00.000Z','oldhost-0a1b2c3d',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'2026-03-01T11:00:00.000Z','2026-03-01T11:00:00.000Z',NULL,NULL,0,NULL);
INSERT INTO "credentials" VALUES(6,'failed','zoom','earlier-client','sealed:v1:d354e90d663ab222:xhOog5iwUFH9g-nB3HcY5YW5y26z_VZEWokfJFbKOx1ownIx3lRVWrnS','sealed:v1:d354e90d663ab222:aDf6T34kkEi1VU4juzKvrPvh-mQbY1PcRNMKI0pjg2Be9Fe3gDVEZf5-HsMbZw8S','','2026-03-01T12:00:00.000Z','','active','','2026-03-01T11:00:00.000Z','oldhost-0a1b2c3d',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'2026-03-01T11:00:00.000Z','2026-03-01T11:00:00.000Z',NULL,NULL,0,NULL);
INSERT INTO "credentials" VALUES(7,'claimed','zoom','earlier-client','sealed:v1:d354e90d663ab222:fiAVE0IG08gIGVrxE7-RyVL95-bSqVC4wt_iRmfLuGpmrKm_WOr5X1Po','sealed:v1:d354e90d663ab222:bdIxC2UZX8fHOysfUnU2RNdktEaAZ4Sq7diR9bbH_h1jl3WX6vgDpyMj02iQ20vBvw','','2026-03-01T12:00:00.000Z','','active','','2026-03-01T11:00:00.000Z','oldhost-0a1b2c3d',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'2026-03-01T11:00:00.000Z','2026-03-01T11:00:00.000Z',NULL,'oldhost-0a1b2c3d-FOLDER8/1/0123456789abcdef',1,'2026-03-01T11:00:00.000Z');
CREATE TABLE provider_pauses (
	provider TEXT NOT NULL, 
	until VARCHAR NOT NULL, 
	is_broken BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (provider)
);
CREATE INDEX ix_credentials_due ON credentials (access_token_expiry) WHERE is_active IS 1;
CREATE INDEX ix_credentials_claim_owner ON credentials (claim_owner) WHERE claim_owner IS NOT NULL;
CREATE INDEX ix_credentials_unreadable ON credentials (CASE WHEN access_token_expiry GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9]Z' THEN strftime('%Y-%m-%dT%H:%M:%fZ', access_token_expiry, '+0 days') IS NOT access_token_expiry ELSE 1 END);
COMMIT;
PRAGMA user_version = 3;
