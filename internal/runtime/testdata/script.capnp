using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = ["--max-heap-size=192"],
  services = [
    (name = "user", worker = (
      serviceWorkerScript = embed "../modules/main",
      compatibilityDate = "2021-11-02", compatibilityFlags = ["nodejs_compat"],
      bindings = [
        (name = "W", wasmModule = embed "../modules/wasm"),
      ],
      tails = ["router"], cacheApiOutbound = (name = "router", entrypoint = "cache"),
      globalOutbound = "outbound")),
    (name = "router", worker = (
      modules = [(name = "router", esModule = "router.js")],
      compatibilityDate = "2026-01-01", compatibilityFlags = ["service_binding_extra_handlers"],
      bindings = [(name = "USER", service = "user"), (name = "SINK", service = "sink")],
      globalOutbound = "nowhere")),
    (name = "sink", external = (address = "unix:/run/sink", http = ())),
    (name = "outbound", network = (allow = ["public", "private"], deny = ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "64:ff9b::a9fe:0/112", "64:ff9b::a83f:8110/128", "64:ff9b::6464:64c8/128", "64:ff9b::c000:c0/128", "64:ff9b:1::a9fe:0/112", "64:ff9b:1::a83f:8110/128", "64:ff9b:1::6464:64c8/128", "64:ff9b:1::c000:c0/128", "::ffff:0:a9fe:0/112", "::ffff:0:a83f:8110/128", "::ffff:0:6464:64c8/128", "::ffff:0:c000:c0/128"], tlsOptions = (trustBrowserCas = true))),
    (name = "nowhere", network = (allow = [])),
  ],
  sockets = [
    (name = "user-0", address = "unix:/run/u0", http = (forwardedProtoHeader = "Tidegate-Proto", cfBlobHeader = "Tidegate-Cf", capnpConnectHost = "rpc.tidegate.invalid:443"),
      service = "user"),
    (name = "router", address = "unix:/run/router", http = (), service = "router"),
  ]);
