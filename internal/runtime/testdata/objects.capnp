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
        (name = "ROOM", durableObjectNamespace = (className = "Room")),
      ],
      durableObjectNamespaces = [
        (className = "Room", uniqueKey = "0123456789abcdef0123456789abcdef", enableSql = false),
        (className = "Raum\"\xc3\xbc", uniqueKey = "fedcba9876543210fedcba9876543210", enableSql = true),
      ],
      durableObjectStorage = (localDisk = "objects"),
      tails = ["router"], cacheApiOutbound = (name = "router", entrypoint = "cache"),
      globalOutbound = "outbound")),
    (name = "router", worker = (
      modules = [(name = "router", esModule = "router.js")],
      compatibilityDate = "2026-01-01", compatibilityFlags = ["service_binding_extra_handlers"],
      bindings = [(name = "USER", service = "user"), (name = "SINK", service = "sink")],
      globalOutbound = "nowhere")),
    (name = "sink", external = (address = "unix:/run/sink", http = ())),
    (name = "objects", disk = (path = "/data/objects", writable = true)),
    (name = "outbound", network = (allow = ["public"], deny = ["0.0.0.0/8", "::/96", "2002::/16"], tlsOptions = (trustBrowserCas = true))),
    (name = "nowhere", network = (allow = [])),
  ],
  sockets = [
    (name = "user-0", address = "unix:/run/u0", http = (forwardedProtoHeader = "Tidegate-Proto", cfBlobHeader = "Tidegate-Cf", capnpConnectHost = "rpc.tidegate.invalid:443"),
      service = "user"),
    (name = "user-1", address = "unix:/run/u1", http = (forwardedProtoHeader = "Tidegate-Proto", cfBlobHeader = "Tidegate-Cf", capnpConnectHost = "rpc.tidegate.invalid:443"),
      service = (name = "user", entrypoint = "Admin")),
    (name = "router", address = "unix:/run/router", http = (), service = "router"),
  ]);
