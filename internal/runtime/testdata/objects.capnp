using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = ["--max-heap-size=192"],
  services = [
    (name = "user", worker = (
      modules = [
        (name = "tidegate-host-0", esModule = "import { hosted, notes } from \"tidegate-hosted-0\";\nimport * as user from \"src/index.js\";\nexport * from \"src/index.js\";\nconst main = user.default;\nexport { main as default };\nexport { notes as \"tidegate:notes\" };\nconst Class0 = hosted(user[\"Room\"], \"SECRET\", \"MOVING\");\nexport { Class0 as \"tidegate:Room\" };\nconst Class1 = hosted(user[\"Raum\\\"\xc3\xbc\"], \"SECRET\", \"MOVING\");\nexport { Class1 as \"tidegate:Raum\\\"\xc3\xbc\" };\n"),
        (name = "tidegate-hosted-0", esModule = "hosted.js"),
        (name = "src/index.js", esModule = embed "../modules/main"),
        (name = "li\"b\\\xc3\xa9.js", esModule = embed "../modules/lib"),
        (name = "a.wasm", wasm = embed "../modules/wasm"),
        (name = "c.cjs", commonJsModule = embed "../modules/cjs"),
      ],
      compatibilityDate = "2021-11-02", compatibilityFlags = ["nodejs_compat"],
      bindings = [
        (name = "ROOM", wrapped = (moduleName = "tidegate:namespace", innerBindings = [(name = "ids", durableObjectNamespace = (className = "tidegate:Room")), (name = "proxies", durableObjectNamespace = (className = "Proxy0", serviceName = "objects"))])),
        (name = "tidegate:Room", wrapped = (moduleName = "tidegate:namespace", innerBindings = [(name = "ids", durableObjectNamespace = (className = "tidegate:Room")), (name = "proxies", durableObjectNamespace = (className = "Proxy0", serviceName = "objects"))])),
        (name = "tidegate:Raum\"\xc3\xbc", wrapped = (moduleName = "tidegate:namespace", innerBindings = [(name = "ids", durableObjectNamespace = (className = "tidegate:Raum\"\xc3\xbc")), (name = "proxies", durableObjectNamespace = (className = "Proxy1", serviceName = "objects"))])),
      ],
      durableObjectNamespaces = [
        (className = "tidegate:Room", uniqueKey = "0123456789abcdef0123456789abcdef", enableSql = false),
        (className = "tidegate:Raum\"\xc3\xbc", uniqueKey = "fedcba9876543210fedcba9876543210", enableSql = true),
      ],
      durableObjectStorage = (localDisk = "disk"),
      tails = ["router"], cacheApiOutbound = (name = "router", entrypoint = "cache"),
      globalOutbound = "outbound")),
    (name = "router", worker = (
      modules = [(name = "router", esModule = "router.js")],
      compatibilityDate = "2026-01-01", compatibilityFlags = ["service_binding_extra_handlers"],
      bindings = [(name = "USER", service = "user"), (name = "SINK", service = "sink"), (name = "OBJECTS", service = "objects"), (name = "SECRET", text = "SECRET"), (name = "MOVING_ALARM", text = "MOVING")],
      globalOutbound = "nowhere")),
    (name = "sink", external = (address = "unix:/run/sink", http = ())),
    (name = "disk", disk = (path = "/data/objects", writable = true)),
    (name = "objects", worker = (
      modules = [(name = "main", esModule = "import { control, proxyOf } from \"objects\";\nimport { DurableObject } from \"cloudflare:workers\";\nexport default control;\nexport const Proxy0 = proxyOf(\"0123456789abcdef0123456789abcdef\");\nexport class Ids0 extends DurableObject {}\nexport const Proxy1 = proxyOf(\"fedcba9876543210fedcba9876543210\");\nexport class Ids1 extends DurableObject {}\n"), (name = "objects", esModule = "objects.js")],
      compatibilityDate = "2026-01-01", compatibilityFlags = ["enhanced_error_serialization"],
      bindings = [(name = "DEBUG", workerdDebugPort = void), (name = "ROUTER", service = "sink"), (name = "SECRET", text = "SECRET")],
      durableObjectNamespaces = [
        (className = "Proxy0", uniqueKey = "tidegate:0123456789abcdef0123456789abcdef"),
        (className = "Proxy1", uniqueKey = "tidegate:fedcba9876543210fedcba9876543210"),
      ],
      durableObjectStorage = (inMemory = void),
      globalOutbound = "nowhere")),
    (name = "outbound", network = (allow = ["public"], deny = ["0.0.0.0/8", "::/96", "::ffff:0:0:0/96", "2002::/16", "64:ff9b:1::/48", "64:ff9b::/104", "64:ff9b::a00:0/104", "64:ff9b::6440:0/106", "64:ff9b::7f00:0/104", "64:ff9b::ac10:0/108", "64:ff9b::c0a8:0/112", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "64:ff9b::a9fe:0/112", "64:ff9b::a83f:8110/128", "64:ff9b::6464:64c8/128", "64:ff9b::c000:c0/128", "64:ff9b:1::a9fe:0/112", "64:ff9b:1::a83f:8110/128", "64:ff9b:1::6464:64c8/128", "64:ff9b:1::c000:c0/128", "::ffff:0:a9fe:0/112", "::ffff:0:a83f:8110/128", "::ffff:0:6464:64c8/128", "::ffff:0:c000:c0/128"], tlsOptions = (trustBrowserCas = true))),
    (name = "nowhere", network = (allow = [])),
  ],
  extensions = [(modules = [(name = "tidegate:namespace", internal = true, esModule = "namespace.js")])],
  sockets = [
    (name = "user-0", address = "unix:/run/u0", http = (forwardedProtoHeader = "Tidegate-Proto", cfBlobHeader = "Tidegate-Cf", capnpConnectHost = "rpc.tidegate.invalid:443"),
      service = "user"),
    (name = "user-1", address = "unix:/run/u1", http = (forwardedProtoHeader = "Tidegate-Proto", cfBlobHeader = "Tidegate-Cf", capnpConnectHost = "rpc.tidegate.invalid:443"),
      service = (name = "user", entrypoint = "Admin")),
    (name = "router", address = "unix:/run/router", http = (), service = "router"),
  ]);
