using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = ["--max-heap-size=192"],
  services = [
    (name = "user", worker = (
      modules = [
        (name = "src/index.js", esModule = embed "../modules/main"),
        (name = "li\"b\\\xc3\xa9.js", esModule = embed "../modules/lib"),
        (name = "a.wasm", wasm = embed "../modules/wasm"),
        (name = "c.cjs", commonJsModule = embed "../modules/cjs"),
      ],
      compatibilityDate = "2021-11-02", compatibilityFlags = ["nodejs_compat"],
      bindings = [
        (name = "DATA", data = embed "../modules/wasm"),
        (name = "JSON", json = "{\"a\": [1, \"\\n\"]}"),
        (name = "SECRET", text = "two\nlines\x00\x7f"),
        (name = "SVC", service = "binding-3"),
        (name = "VERSION", json = "{\"id\":\"11111111-1111-4111-8111-111111111111\",\"tag\":\"a \\\"tag\\\"\",\"timestamp\":\"2026-11-01T12:00:00.5Z\"}"),
      ],
      tails = ["router"], cacheApiOutbound = (name = "router", entrypoint = "cache"),
      globalOutbound = "outbound")),
    (name = "router", worker = (
      modules = [(name = "router", esModule = "router.js")],
      compatibilityDate = "2026-01-01", compatibilityFlags = ["service_binding_extra_handlers"],
      bindings = [(name = "USER", service = "user"), (name = "SINK", service = "sink")],
      globalOutbound = "nowhere")),
    (name = "sink", external = (address = "unix:/run/sink", http = ())),
    (name = "outbound", network = (allow = ["public"], deny = ["0.0.0.0/8", "::/96", "::ffff:0:0:0/96", "2002::/16", "64:ff9b:1::/48", "64:ff9b::/104", "64:ff9b::a00:0/104", "64:ff9b::6440:0/106", "64:ff9b::7f00:0/104", "64:ff9b::ac10:0/108", "64:ff9b::c0a8:0/112", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "64:ff9b::a9fe:0/112", "64:ff9b::a83f:8110/128", "64:ff9b::6464:64c8/128", "64:ff9b::c000:c0/128", "64:ff9b:1::a9fe:0/112", "64:ff9b:1::a83f:8110/128", "64:ff9b:1::6464:64c8/128", "64:ff9b:1::c000:c0/128", "::ffff:0:a9fe:0/112", "::ffff:0:a83f:8110/128", "::ffff:0:6464:64c8/128", "::ffff:0:c000:c0/128"], tlsOptions = (trustBrowserCas = true))),
    (name = "nowhere", network = (allow = [])),
    (name = "binding-3", external = (address = "unix:/run/bindings", http = (
      forwardedProtoHeader = "X-Forwarded-Proto", capnpConnectHost = "656e747279706f696e743d41646d696e266e6f6e63653d4e4f4e4345267363726970743d6f74686572.rpc.tidegate.invalid:443",
      injectRequestHeaders = [(name = "Tidegate-Binding", value = "entrypoint=Admin&nonce=NONCE&script=other")]))),
  ],
  sockets = [
    (name = "user-0", address = "unix:/run/u0", http = (forwardedProtoHeader = "Tidegate-Proto", cfBlobHeader = "Tidegate-Cf", capnpConnectHost = "rpc.tidegate.invalid:443"),
      service = "user"),
    (name = "user-1", address = "unix:/run/u1", http = (forwardedProtoHeader = "Tidegate-Proto", cfBlobHeader = "Tidegate-Cf", capnpConnectHost = "rpc.tidegate.invalid:443"),
      service = (name = "user", entrypoint = "Admin")),
    (name = "router", address = "unix:/run/router", http = (), service = "router"),
  ]);
